-- Organisations and API keys; results, the ledger of calls, sessions; where the archive stands in each partition.

CREATE TABLE orgs (
	id text PRIMARY KEY,                -- org_…
	name text NOT NULL UNIQUE,
	created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
	hash text PRIMARY KEY,              -- SHA-256 of the key, hex; the key itself is nowhere
	id text NOT NULL UNIQUE,            -- key_…
	org text NOT NULL REFERENCES orgs (id),
	name text NOT NULL DEFAULT '',
	created_at timestamptz NOT NULL DEFAULT now(),
	revoked_at timestamptz
);

-- One row per job: its end. The first record wins; nothing is updated.
CREATE TABLE results (
	job text PRIMARY KEY,
	org text NOT NULL,
	client_user text,
	kind text NOT NULL,
	lane text NOT NULL,
	session text,
	turn bigint,
	task text,
	model text,
	status text NOT NULL CHECK (status IN ('succeeded', 'failed', 'expired', 'cancelled')),
	attempt bigint NOT NULL,
	tries integer NOT NULL,
	created_ms bigint NOT NULL,         -- times: ms since 1970
	picked_up_ms bigint,
	first_token_ms bigint,
	finished_ms bigint NOT NULL,
	provider text,
	account text,
	target_model text,
	answer bytea,                       -- the text's bytes; NULL where answer_blob is set
	answer_blob text,
	bytes bigint NOT NULL,
	parts text,                         -- JSON
	finish_reason text,
	partial boolean NOT NULL,
	input_tokens bigint NOT NULL,
	cached_input_tokens bigint NOT NULL,
	cache_write_tokens bigint NOT NULL,
	output_tokens bigint NOT NULL,
	cost_microusd bigint NOT NULL,
	fault text,
	fault_message text,
	calls text,                         -- JSON
	turn_messages text,                 -- JSON
	metadata text,                      -- JSON, as the client sent it
	log_topic text,
	log_partition integer,
	log_offset bigint
);
CREATE INDEX results_org ON results (org, job DESC);
CREATE INDEX results_session ON results (session, turn) WHERE session IS NOT NULL;

-- One row per call at a provider: usage and cost.
CREATE TABLE calls (
	job text NOT NULL,
	number integer NOT NULL,            -- within the job, from 1
	org text NOT NULL,
	provider text NOT NULL,
	account text NOT NULL,
	model text NOT NULL,
	attempt bigint NOT NULL,
	started_ms bigint NOT NULL,
	first_token_ms bigint,
	ended_ms bigint,
	fault text,
	request_id text,
	input_tokens bigint NOT NULL DEFAULT 0,
	cached_input_tokens bigint NOT NULL DEFAULT 0,
	cache_write_tokens bigint NOT NULL DEFAULT 0,
	output_tokens bigint NOT NULL DEFAULT 0,
	cost_microusd bigint NOT NULL DEFAULT 0,
	PRIMARY KEY (job, number)
);
CREATE INDEX calls_org_started ON calls (org, started_ms);

CREATE TABLE sessions (
	id text PRIMARY KEY,                -- ses_…
	org text NOT NULL,
	task text,
	system text,
	metadata text,
	ttl_ms bigint NOT NULL,
	created_ms bigint NOT NULL,
	deleted_ms bigint
);
CREATE INDEX sessions_org ON sessions (org, id DESC);

-- The next offset that the archive reads: moved in the transaction that inserts what was read.
CREATE TABLE lane_offsets (
	reader text NOT NULL,
	topic text NOT NULL,
	partition integer NOT NULL,
	next_offset bigint NOT NULL,
	PRIMARY KEY (reader, topic, partition)
);
