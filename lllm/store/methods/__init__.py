"""The methods of LogStore, by subject; one class for each, which LogStore inherits."""
