-- A call at a provider begins: it is written before anybody hears of it.
-- KEYS: j:{job}
-- ARGV: fence, attempt, tries, calls (JSON list so far), provider, account, model, picked_up_ms, channel, event ('' for none)
-- Returns a list: '1' and the wish, or '0' where the claim is not held any more, or the job is past this call: what was sent over a
-- connection that ended may arrive behind what its owner said later.
local h = redis.call('HMGET', KEYS[1], 'fence', 'wish', 'attempt', 'picked_up_ms', 'why', 'state')
if h[1] ~= ARGV[1] or h[6] == 'finishing' or tonumber(h[3] or '0') > tonumber(ARGV[2]) then
	return {'0', ''}
end
if h[3] ~= ARGV[2] then
	redis.call('HDEL', KEYS[1], 'parts') -- they are another answer's
end
redis.call('HSET', KEYS[1], 'state', 'running', 'called', ARGV[1], 'attempt', ARGV[2], 'tries', ARGV[3], 'calls', ARGV[4],
	'provider', ARGV[5], 'account', ARGV[6], 'model', ARGV[7], 'picked_up_ms', h[4] or ARGV[8])
if h[5] then
	redis.call('HDEL', KEYS[1], 'why', 'position', 'estimate_ms')
end
if ARGV[10] ~= '' then
	redis.call('PUBLISH', ARGV[9], ARGV[10])
end
return {'1', h[2] or ''}
