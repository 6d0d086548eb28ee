"""From files to arrays: reading, listing, caching, and generated scans."""
