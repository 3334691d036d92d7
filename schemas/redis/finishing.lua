-- The result is decided, with a single winner. From here on the job is finished from this, without another call.
-- KEYS: j:{job}, out:{job}:attempt
-- ARGV: fence, result (a result record in JSON without its text), bytes of the answer, attempt
-- Returns: '1'; '0' where the claim is not held any more; '2' where the answer's length is not that.
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then
	return '0'
end
if redis.call('STRLEN', KEYS[2]) ~= tonumber(ARGV[3]) then
	return '2'
end
-- A job that ends between two calls has begun an attempt that no call told of.
if redis.call('HGET', KEYS[1], 'attempt') ~= ARGV[4] then
	redis.call('HDEL', KEYS[1], 'parts')
end
redis.call('HSET', KEYS[1], 'state', 'finishing', 'result', ARGV[2], 'attempt', ARGV[4])
return '1'
