-- A job waits in its session's outbox, which holds the newest so many. Where one has to go for it, the list does not have all any more: it
-- loses its entry `epoch`, and `cut` says so for as long as the list stands.
-- KEYS: ob:{session}
-- ARGV: created_ms, job, most, ttl_ms, 'NX' (where the list has no time to live only) or ''
-- Returns: how many went
local went = 0
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
if redis.call('ZCARD', KEYS[1]) > tonumber(ARGV[3]) + 1 then
	redis.call('ZREM', KEYS[1], 'epoch')
	redis.call('ZADD', KEYS[1], '9000000000000000', 'cut')
	went = redis.call('ZREMRANGEBYRANK', KEYS[1], '0', '-' .. (tonumber(ARGV[3]) + 2))
end
if ARGV[5] == 'NX' then
	redis.call('PEXPIRE', KEYS[1], ARGV[4], 'NX')
else
	redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return went
