"""A page to look at the masks of a version and to judge them: `locloc masks report`, `serve` and `decide`."""
