"""Makes versions: what is to be built, the coordinator, its workers, and what happens when one dies."""
