"""What several contexts of a driver can do to each other, as facts and formulas: the ground of D01 to D04, R03 and R04.

Engines and evidence both stand on this package, as both stand on `encode` and `invariant`: an engine looks for answers
here, evidence makes the same questions again from a certified invariant.
"""
