-- An Idempotency-Key's answer is kept; or, with an empty status, the key is free again for another try (the job was refused, or
-- the answer is one that is not kept). Compare and set: only while it is pending for this job. Where another try took the same
-- job, that may be accepted yet: then the key is free only with `void`, when the job is refused for good.
-- KEYS: i:{org}:hash
-- ARGV: job, status, reply (with an empty status: 'void' or '')
-- Returns: '1', or '0' where it is not pending for this job any more.
local h = redis.call('HMGET', KEYS[1], 'state', 'job', 'again')
if h[1] ~= 'pending' or h[2] ~= ARGV[1] or (ARGV[2] == '' and ARGV[3] ~= 'void' and h[3]) then
	return '0'
end
if ARGV[2] == '' then
	redis.call('DEL', KEYS[1])
else
	redis.call('HSET', KEYS[1], 'state', 'done', 'status', ARGV[2], 'reply', ARGV[3])
end
return '1'
