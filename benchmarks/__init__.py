"""How fast modelcheck is, on synthetic drivers of every size."""
