-- A job waits: the reason and its place are written for who looks, and told to who follows.
-- KEYS: j:{job}
-- ARGV: fence ('' where nobody has claimed it yet), why, channel, event, position in its line (-1: in none), estimate_ms (-1: not known)
-- Returns: '1', or '0' where somebody else holds the claim, or the job does not wait.
local h = redis.call('HMGET', KEYS[1], 'fence', 'state')
local stands = h[1] == ARGV[1]
if ARGV[1] == '' then
	if h[2] and h[2] ~= 'queued' then
		return '0'
	end
	-- The front's word of a new job may still come: then it is only told.
	stands = h[2] and not h[1]
elseif not stands then
	return '0'
end
if stands then
	redis.call('HSET', KEYS[1], 'why', ARGV[2], 'position', ARGV[5], 'estimate_ms', ARGV[6])
end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return '1'
