"""Where do secrets live? One file a backend, one protocol."""
