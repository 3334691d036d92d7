-- The claim is given back unfinished (drain, hand-over): the next claim is not one after a death.
-- KEYS: j:{job}
-- ARGV: fence, tries, copy (a tier's record was acknowledged with this copy; the present one otherwise)
-- Returns: '1', or '0' where the claim is not held any more.
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then
	return '0'
end
redis.call('HDEL', KEYS[1], 'fence', 'worker', 'incarnation', 'lease')
redis.call('HSET', KEYS[1], 'state', 'queued', 'tries', ARGV[2], 'copy', ARGV[3])
return '1'
