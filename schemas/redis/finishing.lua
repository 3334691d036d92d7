-- The result is decided, with a single winner, and the last bytes of its answer are written with it. From here on the job is finished
-- from this, without another call.
-- KEYS: j:{job}, out:{job}:attempt
-- ARGV: 1 fence, 2 result (a result record in JSON without its text), 3 attempt, 4 bytes of the answer that stand, 5 those after them
--       ('' none), 6 ttl_ms, 7 first_token_ms ('' unless these are the first), 8 channel, 9 head of the delta event, 10 parts (JSON;
--       '' leaves them)
-- Returns: '1'; '0' where the claim is not held any more; '2' where the answer's length is not that: nothing was written.
local h = redis.call('HMGET', KEYS[1], 'fence', 'attempt', 'first_token_ms')
if h[1] ~= ARGV[1] then
	return '0'
end
if redis.call('STRLEN', KEYS[2]) ~= tonumber(ARGV[4]) then
	return '2'
end
-- A job that ends between two calls has begun an attempt that no call told of.
if h[2] ~= ARGV[3] then
	redis.call('HDEL', KEYS[1], 'parts')
end
local set = {'state', 'finishing', 'result', ARGV[2], 'attempt', ARGV[3]}
if ARGV[7] ~= '' and not h[3] then
	set[#set + 1] = 'first_token_ms'
	set[#set + 1] = ARGV[7]
end
if ARGV[10] ~= '' then
	set[#set + 1] = 'parts'
	set[#set + 1] = ARGV[10]
end
redis.call('HSET', KEYS[1], unpack(set))
if ARGV[5] ~= '' then
	if ARGV[4] == '0' then
		redis.call('SET', KEYS[2], ARGV[5], 'PX', ARGV[6])
	else
		redis.call('APPEND', KEYS[2], ARGV[5])
	end
	redis.call('PUBLISH', ARGV[8], ARGV[9] .. ARGV[5])
end
return '1'
