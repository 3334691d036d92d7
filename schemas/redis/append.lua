-- Bytes of the answer at an explicit place, and their delta.
-- KEYS: j:{job}, out:{job}:attempt
-- ARGV: 1 fence, 2 at, 3 bytes, 4 ttl_ms, 5 first_token_ms ('' unless these are the first), 6 channel, 7 head of the delta event
--       ('' publishes nothing), 8 parts (JSON; '' leaves them)
-- Returns a list: '1' and the wish; '0' where the claim is not held any more; '2' and the length that stands where it is not @at:
-- nothing was written, the owner sends the whole text with at = 0 (which replaces).
local h = redis.call('HMGET', KEYS[1], 'fence', 'wish', 'attempt')
if h[1] ~= ARGV[1] then
	return {'0', ''}
end
local at = tonumber(ARGV[2])
local len = redis.call('STRLEN', KEYS[2])
if at == 0 then
	redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
elseif len == at then
	redis.call('APPEND', KEYS[2], ARGV[3])
else
	return {'2', tostring(len)}
end
-- The call that began this attempt may not have been written: what is told counts as begun, so that it never comes again.
local attempt = string.match(KEYS[2], '(%d+)$')
if h[3] ~= attempt then
	redis.call('HDEL', KEYS[1], 'parts')
	redis.call('HSET', KEYS[1], 'attempt', attempt)
end
if ARGV[5] ~= '' then
	redis.call('HSETNX', KEYS[1], 'first_token_ms', ARGV[5])
end
if ARGV[8] ~= '' then
	redis.call('HSET', KEYS[1], 'parts', ARGV[8])
end
if ARGV[7] ~= '' then
	redis.call('PUBLISH', ARGV[6], ARGV[7] .. ARGV[3])
end
return {'1', h[2] or ''}
