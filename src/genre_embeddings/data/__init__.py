"""Ratings from their source into tables, and the tables into train, validation and test."""
