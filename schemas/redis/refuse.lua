-- A job that may be in the log is refused, where nothing stands: a produce timed out, and nobody will be told that it was
-- accepted. A pool that finds the record later completes it without running it.
-- KEYS: j:{job}
-- ARGV: ttl_ms, org
-- Returns: 'refused' where it stands so now; else the state that stands (the job was accepted after all).
local state = redis.call('HGET', KEYS[1], 'state')
if state then
	return state
end
redis.call('HSET', KEYS[1], 'v', '1', 'state', 'refused', 'org', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 'refused'
