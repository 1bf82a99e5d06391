"""The store: records sessions in a log, and lists, loads, sums up and exports them."""
