"""Typed tables of a store for analysts: Parquet files, Arrow tables and data frames."""
