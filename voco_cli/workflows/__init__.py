"""One file a command, from settings to result; nothing here prints."""
