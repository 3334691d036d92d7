-- Webhooks: one row per job that asked for one, made by the archive in the transaction that inserts its result; sluice-notify
-- takes them from here. Secrets that sign them.

CREATE TABLE webhooks (
	job text PRIMARY KEY,
	org text NOT NULL,
	url text NOT NULL,
	origin text NOT NULL,               -- scheme, host and port: what shares a limit
	state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'dead')),
	tries integer NOT NULL DEFAULT 0,   -- begun; also the fence: who writes the end of a try names its number
	due_ms bigint NOT NULL,             -- times: ms since 1970. While a try is under way: when it is given up for lost
	holder text,                        -- the process that made the latest try
	created_ms bigint NOT NULL,
	tried_ms bigint,                    -- the latest try's end
	status integer,                     -- HTTP's, of the latest answer
	why text,                           -- what was wrong with the latest try
	ended_ms bigint                     -- delivered, or given up
);
CREATE INDEX webhooks_due ON webhooks (due_ms) WHERE state = 'waiting';
CREATE INDEX webhooks_ended ON webhooks (state, ended_ms) WHERE state <> 'waiting';
CREATE INDEX webhooks_org ON webhooks (org, job DESC);

-- The newest two of an organisation sign, so that one can be changed without a gap.
CREATE TABLE webhook_secrets (
	org text NOT NULL,
	secret text NOT NULL,               -- whsec_ and base64, as Standard Webhooks writes it
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (org, secret)
);
