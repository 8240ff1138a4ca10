"""The strongest peers and this project on the same split files, in one table."""
