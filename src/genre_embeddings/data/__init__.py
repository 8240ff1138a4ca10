"""Read ratings from a source into tables, and split them into train, validation and test."""
