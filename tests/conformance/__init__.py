"""Cases with known answers: translated into driver models, verified, and compared."""
