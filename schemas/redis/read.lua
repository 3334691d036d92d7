-- What stands of a job, and how long its present answer is.
-- KEYS: j:{job}
-- ARGV: prefix of the answer's key ("out:{job}:")
-- Returns a list: the length of the present attempt's answer, then field, value … as HGETALL; an empty list where nothing stands.
local all = redis.call('HGETALL', KEYS[1])
if #all == 0 then
	return {}
end
local attempt = redis.call('HGET', KEYS[1], 'attempt') or '0'
local reply = {tostring(redis.call('STRLEN', ARGV[1] .. attempt))}
for i = 1, #all do
	reply[i + 1] = all[i]
end
return reply
