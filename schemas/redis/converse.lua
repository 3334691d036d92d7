-- A turn's messages go into the conversation, once; a turn that brought none (it failed, or was refused) only counts as over.
-- KEYS: s:{session}, c:{session}
-- ARGV: turn, job, then messages as JSON
-- Returns: '1' appended; '0' it was there already; '' where the session is not here (the record in PostgreSQL has it).
local h = redis.call('HMGET', KEYS[1], 'conv', 'ttl_ms', 'org', 'd:' .. ARGV[2], 'over', 'turn', 'until_ms')
if not h[3] then
	return ''
end
-- conv: every turn up to it is over. over: the turns above it that are. One that brings messages ran, so all before it are over; one
-- that brings none may end before an earlier one that still runs: it was cancelled or expired while it waited.
local turn, conv = tonumber(ARGV[1]), tonumber(h[1] or '0')
if turn > conv then
	local over, rest = {}, {}
	for t in string.gmatch(h[5] or '', '%d+') do
		over[tonumber(t)] = true
	end
	over[turn] = true
	if #ARGV > 2 then
		conv = turn
	end
	while over[conv + 1] do
		conv = conv + 1
	end
	for t in pairs(over) do
		if t > conv then
			rest[#rest + 1] = t
		end
	end
	table.sort(rest)
	redis.call('HSET', KEYS[1], 'conv', tostring(conv), 'over', table.concat(rest, ' '))
end
if #ARGV > 2 then
	if h[4] then
		return '0'
	end
	redis.call('HSET', KEYS[1], 'd:' .. ARGV[2], '1')
	for i = 3, #ARGV do
		redis.call('RPUSH', KEYS[2], ARGV[i])
	end
end
-- Its time runs from now on, or from the last deadline of the turns that are open.
local stays = tonumber(h[2] or '3600000')
if conv >= tonumber(h[6] or '0') then
	redis.call('HDEL', KEYS[1], 'until_ms')
elseif h[7] then
	local t = redis.call('TIME')
	stays = stays + math.max(0, tonumber(h[7]) - (t[1] * 1000 + math.floor(t[2] / 1000)))
end
redis.call('PEXPIRE', KEYS[1], tostring(stays))
redis.call('PEXPIRE', KEYS[2], tostring(stays))
return '1'
