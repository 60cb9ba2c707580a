"""The comparison of all variants: from ranked lists to values, differences and what they are worth.

`users` makes per-user metrics of the runs, `cells` arrays of them; `intervals`, `significance` and
`power` are the statistics, `slices` says which users and lists; `families` puts them together as
`result.Comparison`, of which `figures` makes figures.json and metrics.json. `single` has what one
re-ranker reaches by itself.
"""
