"""What of the chart is made from other sources: schema, README, and the profiles' data."""
