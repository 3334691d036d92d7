-- An Idempotency-Key is used.
-- KEYS: i:{org}:hash
-- ARGV: hash of the body, job id to reserve, ttl_ms
-- Returns a list: 'new'; 'pending', job (the same request is or was under way: make the same job again);
-- 'done', job, status, reply; 'conflict' (another body).
local h = redis.call('HMGET', KEYS[1], 'state', 'body', 'job', 'status', 'reply')
if not h[1] then
	redis.call('HSET', KEYS[1], 'v', '1', 'state', 'pending', 'body', ARGV[1], 'job', ARGV[2])
	redis.call('PEXPIRE', KEYS[1], ARGV[3])
	return {'new', ARGV[2]}
end
if h[2] ~= ARGV[1] then
	return {'conflict'}
end
if h[1] == 'pending' then
	redis.call('HSET', KEYS[1], 'again', '1') -- two may be under way: idem_end
	return {'pending', h[3]}
end
return {'done', h[3], h[4], h[5]}
