"""Models of other libraries and this project on the same split files, in one table."""
