"""Models in the languages of other tools: scenarios in Promela, roots as Horn clauses and as transition systems."""
