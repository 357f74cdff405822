"""Which x: exhaustive and stratified sets, cells of the real line, Hypothesis strategies."""
