-- A turn's messages go into the conversation, once; a turn that brought none (it failed) only counts as over.
-- KEYS: s:{session}, c:{session}
-- ARGV: turn, job, then messages as JSON
-- Returns: '1' appended; '0' it was there already; '' where the session is not here (the record in PostgreSQL has it).
local h = redis.call('HMGET', KEYS[1], 'conv', 'ttl_ms', 'org', 'p:' .. ARGV[2])
if not h[3] then
	return ''
end
-- A turn may end before an earlier one that still runs: it was cancelled or expired while it waited.
if tonumber(ARGV[1]) > tonumber(h[1] or '0') then
	redis.call('HSET', KEYS[1], 'conv', ARGV[1])
end
if #ARGV > 2 then
	if not h[4] or string.match(h[4], ' done$') then
		return '0'
	end
	redis.call('HSET', KEYS[1], 'p:' .. ARGV[2], h[4] .. ' done')
	for i = 3, #ARGV do
		redis.call('RPUSH', KEYS[2], ARGV[i])
	end
end
redis.call('PEXPIRE', KEYS[1], h[2] or '3600000')
redis.call('PEXPIRE', KEYS[2], h[2] or '3600000')
return '1'
