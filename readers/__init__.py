"""The way back: streams of rows, SQL, and the checks that compare catalog and storage."""
