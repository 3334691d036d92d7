-- The claim is given back unfinished (drain, hand-over): the next claim is not one after a death.
-- KEYS: j:{job}
-- ARGV: fence, tries (-1: as they are), copy (a tier's record was acknowledged with this copy; the present one otherwise), calls (JSON
--       list so far, with their ends; '': as they are)
-- Returns: '1', or '0' where the claim is not held any more.
local h = redis.call('HMGET', KEYS[1], 'fence', 'state')
if h[1] ~= ARGV[1] then
	return '0'
end
redis.call('HDEL', KEYS[1], 'fence', 'worker', 'incarnation', 'lease')
redis.call('HSET', KEYS[1], 'copy', ARGV[3])
if h[2] ~= 'finishing' then
	redis.call('HSET', KEYS[1], 'state', 'queued')
end
if ARGV[2] ~= '-1' then
	redis.call('HSET', KEYS[1], 'tries', ARGV[2])
end
if ARGV[4] ~= '' then
	redis.call('HSET', KEYS[1], 'calls', ARGV[4])
end
return '1'
