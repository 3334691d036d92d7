-- Ends of jobs that were submitted over WebSockets and that no client of their session has acknowledged: what Redis remembers only
-- for a while. Made by the archive in the transaction that inserts the result; an acknowledgement that came before is a row
-- too, so that it is not forgotten then.

CREATE TABLE outbox (
	session text NOT NULL,
	job text NOT NULL,
	acked boolean NOT NULL DEFAULT false,
	at_ms bigint NOT NULL,              -- ms since 1970: the job's end, or the acknowledgement
	PRIMARY KEY (session, job)
);
CREATE INDEX outbox_at ON outbox (at_ms);
