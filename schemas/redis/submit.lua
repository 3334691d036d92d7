-- A job is queued, where nothing stands (the front, after the broker acknowledged the record).
-- KEYS: j:{job}
-- ARGV: ttl_ms, then field, value … to set
-- Returns: 'queued' where this call wrote it; else the state that stands ('refused': the job must not be confirmed).
local state = redis.call('HGET', KEYS[1], 'state')
if state then
	-- A pool was quicker than the front: what only the front knows is added.
	if state ~= 'refused' then
		for i = 2, #ARGV, 2 do
			redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1])
		end
	end
	return state
end
redis.call('HSET', KEYS[1], 'v', '1', 'state', 'queued', 'attempt', '0', unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 'queued'
