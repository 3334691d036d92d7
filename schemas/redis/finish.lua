-- The result is durable: the job is terminal and its followers are told. Asked again for a terminal job it only tells again.
-- KEYS: j:{job}
-- ARGV: fence, state, finished_ms, channel, event
-- Returns: the state that stands ('' where the claim is not held any more and the job is not terminal).
local h = redis.call('HMGET', KEYS[1], 'fence', 'state')
local state = h[2]
if state ~= 'succeeded' and state ~= 'failed' and state ~= 'expired' and state ~= 'cancelled' then
	if h[1] ~= ARGV[1] then
		return ''
	end
	state = ARGV[2]
	redis.call('HSET', KEYS[1], 'state', state, 'finished_ms', ARGV[3])
	redis.call('HDEL', KEYS[1], 'fence', 'worker', 'incarnation', 'lease')
end
if ARGV[5] ~= '' then
	redis.call('PUBLISH', ARGV[4], ARGV[5])
end
return state
