"""The two record formats: reading, writing, order, grouping by length."""
