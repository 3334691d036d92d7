-- A session is made, or brought back from PostgreSQL after Redis lost it. Its turns go on above every number that was given
-- before: 1 + milliseconds since its creation, where it is brought back.
-- KEYS: s:{session}, c:{session}
-- ARGV: ttl_ms, org, task, system, metadata, created_ms, how ('1': brought back; 'unheard': no WebSocket client knows of it yet; or ''), last (job id or ''),
--       the jobs whose messages these are (between spaces), then the conversation's messages
-- Returns: '1' made, '0' it stood already.
if redis.call('EXISTS', KEYS[1]) == 1 then
	return '0'
end
local turn = '0'
if ARGV[7] == '1' then
	local t = redis.call('TIME')
	turn = tostring(1 + math.max(0, t[1] * 1000 + math.floor(t[2] / 1000) - tonumber(ARGV[6])))
end
redis.call('HSET', KEYS[1], 'v', '1', 'org', ARGV[2], 'task', ARGV[3], 'system', ARGV[4], 'metadata', ARGV[5],
	'created_ms', ARGV[6], 'ttl_ms', ARGV[1], 'turn', turn, 'conv', turn)
if ARGV[7] == 'unheard' then
	redis.call('HSET', KEYS[1], 'unheard', '1')
end
if ARGV[8] ~= '' then
	redis.call('HSET', KEYS[1], 'last', ARGV[8])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
for job in string.gmatch(ARGV[9] or '', '%S+') do
	redis.call('HSET', KEYS[1], 'd:' .. job, '1')
end
if #ARGV > 9 then
	redis.call('DEL', KEYS[2])
	for i = 10, #ARGV do
		redis.call('RPUSH', KEYS[2], ARGV[i])
	end
	redis.call('PEXPIRE', KEYS[2], ARGV[1])
end
return '1'
