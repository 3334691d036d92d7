-- The next turn of a session: its number and the job of the turn before.
-- KEYS: s:{session}, c:{session}
-- ARGV: org, job, max_open (0: no bound), left_ms (until the job's deadline)
-- Returns a list: 'ok', turn, predecessor ('' for the first), task, system, unheard ('1': no WebSocket client has joined it); or 'missing' (also another organisation's);
-- or 'busy' where too many turns are open.
local h = redis.call('HMGET', KEYS[1], 'org', 'turn', 'last', 'conv', 'task', 'system', 'ttl_ms', 'p:' .. ARGV[2], 'over', 'unheard', 'until_ms')
if not h[1] or h[1] ~= ARGV[1] then
	return {'missing'}
end
-- The same job again (its first try was not answered) has its turn already: it must not wait for itself.
if h[8] then
	local turn, prev = string.match(h[8], '^(%d+) (%S*)')
	return {'ok', turn, prev, h[5] or '', h[6] or '', h[10] or ''}
end
local turn = tonumber(h[2] or '0') + 1
local max = tonumber(ARGV[3])
-- Open with this one: all above `conv` that are not over (converse.lua).
local conv = tonumber(h[4] or '0')
local open = turn - conv
for t in string.gmatch(h[9] or '', '%d+') do
	if tonumber(t) > conv then
		open = open - 1
	end
end
if max > 0 and open > max then
	return {'busy'}
end
-- p:JOB: its turn and predecessor.
redis.call('HSET', KEYS[1], 'turn', tostring(turn), 'last', ARGV[2], 'p:' .. ARGV[2], tostring(turn) .. ' ' .. (h[3] or ''))
-- until_ms: the last deadline of the turns that are open. The session stands until its ttl_ms behind that; converse.lua takes back what is too long.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local till = math.max(tonumber(h[11] or '0'), now + math.max(0, tonumber(ARGV[4])))
redis.call('HSET', KEYS[1], 'until_ms', tostring(till))
for i = 1, 2 do
	redis.call('PEXPIRE', KEYS[i], tostring(till - now + tonumber(h[7] or '3600000')))
end
return {'ok', tostring(turn), h[3] or '', h[5] or '', h[6] or '', h[10] or ''}
