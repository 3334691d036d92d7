-- The lease goes on.
-- KEYS: j:{job}
-- ARGV: fence, lease_ms
-- Returns a list: '1' and the wish ('' or 'cancel'), or '0' where the claim is not held any more.
local h = redis.call('HMGET', KEYS[1], 'fence', 'wish')
if h[1] ~= ARGV[1] then
	return {'0', ''}
end
local t = redis.call('TIME')
redis.call('HSET', KEYS[1], 'lease', tostring(t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[2])))
return {'1', h[2] or ''}
