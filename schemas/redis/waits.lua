-- A job waits: the reason is written for who looks, and told to who follows.
-- KEYS: j:{job}
-- ARGV: fence ('' where nobody has claimed it yet: then it is only told), why, channel, event
-- Returns: '1', or '0' where the claim is not held any more.
if ARGV[1] ~= '' then
	if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then
		return '0'
	end
	redis.call('HSET', KEYS[1], 'why', ARGV[2])
end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return '1'
