-- A call at a provider begins: it is written before anybody hears of it.
-- KEYS: j:{job}
-- ARGV: fence, attempt, tries, calls (JSON list so far), provider, account, model, picked_up_ms, channel, event ('' for none)
-- Returns a list: '1' and the wish, or '0' where the claim is not held any more.
local h = redis.call('HMGET', KEYS[1], 'fence', 'wish')
if h[1] ~= ARGV[1] then
	return {'0', ''}
end
if redis.call('HGET', KEYS[1], 'attempt') ~= ARGV[2] then
	redis.call('HDEL', KEYS[1], 'parts') -- they are another answer's
end
redis.call('HSET', KEYS[1], 'state', 'running', 'called', ARGV[1], 'attempt', ARGV[2], 'tries', ARGV[3], 'calls', ARGV[4],
	'provider', ARGV[5], 'account', ARGV[6], 'model', ARGV[7])
redis.call('HSETNX', KEYS[1], 'picked_up_ms', ARGV[8])
redis.call('HDEL', KEYS[1], 'why', 'position', 'estimate_ms')
if ARGV[10] ~= '' then
	redis.call('PUBLISH', ARGV[9], ARGV[10])
end
return {'1', h[2] or ''}
