"""Evidence: what must hold for an invariant to prove its obligations, asked of a solver."""
