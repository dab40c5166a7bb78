"""The bus on Redis: keys, scripts, connections. The only place that speaks to Redis."""
