"""What every room uses: errors, files, locks, caches, tables, progress."""
