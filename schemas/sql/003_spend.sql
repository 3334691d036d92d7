-- What a hedge's loser cost stands in the ledger, and in no customer's bill. What everything cost, by day, organisation, user, lane
-- and model.

ALTER TABLE calls ADD COLUMN overhead boolean NOT NULL DEFAULT false;

CREATE VIEW spend AS
SELECT (to_timestamp(c.started_ms / 1000.0) AT TIME ZONE 'UTC')::date AS day,
	c.org, r.client_user, r.lane, c.provider, c.model,
	count(DISTINCT c.job) AS jobs, count(*) AS calls,
	sum(c.input_tokens) AS input_tokens, sum(c.cached_input_tokens) AS cached_input_tokens,
	sum(c.cache_write_tokens) AS cache_write_tokens, sum(c.output_tokens) AS output_tokens,
	coalesce(sum(c.cost_microusd) FILTER (WHERE NOT c.overhead), 0) AS cost_microusd,
	coalesce(sum(c.cost_microusd) FILTER (WHERE c.overhead), 0) AS overhead_microusd
FROM calls c LEFT JOIN results r ON r.job = c.job
GROUP BY 1, 2, 3, 4, 5, 6;
