"""The tests, in three tiers: unit, integration, acceptance; fakes are small real things."""
