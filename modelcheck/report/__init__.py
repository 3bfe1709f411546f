"""What was found, for people (`text`), for programs (`json`), and what a code means (`explain`)."""
