"""The whole way on generated scans, by the commands of the README: what `voco demo` runs."""
