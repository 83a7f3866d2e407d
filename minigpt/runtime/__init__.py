"""What a program needs around its work: flags, start-up, files, locks, signals."""
