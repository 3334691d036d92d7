-- One quota, for all processes: reserve, wait in line, settle. What is reserved and spent is counted in slots of 250 ms over a
-- rolling window of 60 s and 2 s of slack, on Redis's own clock. Never are more than the lane's share of a limit granted within it.
-- KEYS, all with the quota's tag: b: the record, bl: the line, br: reservations, bo: open ones by slot, bg: grants not taken by
--       their end, bm: members (processes), bt: tenants' virtual times
-- ARGV: 1 process (random per start), 2 worker (its channel is ctl:WORKER), 3 epoch (rises when Redis may have lost its memory),
--       4 the quota's name, 5 limits "requests input output tokens" (0: none), 6 shares of the lanes in permille "950 900 800",
--       7 burst_ms (0: not paced), 8 post ('' none: only where this process posted in this epoch already), 9 '1': list members,
--       10 how many have come, as this process heard last (0: where it posts), 11… operations:
--   "ask ID LANE TENANT try|line TAG R I O T"   reserve; try: do not wait; TAG '-' or the one of before. Again with the same ID: look
--   "look ID"                                    where it stands; takes what was granted to it
--   "settle ID R I O T"                          it used this much
--   "back ID"                                    it was never processed, or does not wait any more
--   "hold ID"                                    it goes on: its output counts from now
--   "learn L L L L R R R R"                      the provider's limits and what it says remains (-1: not said; a limit of 0: it has none)
--   "deny MS"                                    the provider refused for its rate: nothing is granted for so long
--   "bye"                                        this process ends: nobody waits for it
-- post: pieces between ';': first "k AGE_MS" (so long ago it knew all members), "f" (nothing was ever done here) or "-", "m PROCESS
--       AGE_MS" a member that was alive then, "s AGE_MS R I O T" spent then, "r ID AGE_MS OUTPUT_AGE_MS R I O T" an open reservation
-- Returns a list: verdict, epoch, and
--   'ok'     next_ms (when the head of the line fits by time alone, -1: nobody waits), '1' where this process is to look then,
--            how many wait, "used ×4", "limits ×4 in force", members ("PROCESS AGE_MS;…"), closed_ms, what was granted to this process
--            by the very call ("ID ID…"), how many have come, '1' where it may be that somebody spent whom no member knows, then one
--            answer per operation:
--            'o TAG' it is reserved; 'w RANK TAG' it waits (0: the head); 's' short (try); 'n' above the lane's whole share;
--            'l MS' above the share of a limit that was learned, which will have aged enough then;
--            'j' not before all who live have heard that this process came; 'x' nothing stands of it; '1' done
--   'post'   nothing was done: post first
--   'stale'  nothing was done: another process knows a newer epoch (the second)
-- Grants are told on the channel of who waits: "1 budget NAME NEXT_MS ID…"; who does not look within 1 s loses it. NEXT_MS
-- is told to the process at the head, -1 to others; -2: somebody came, list the members.
--
-- Redis may lose all of this at any time. Then the processes that are left say who else may have spent: so nothing is granted to one that
-- came before every other member that lives has said that it heard of it. A process whose lease ran out comes anew. Who listed the
-- members within its lease therefore knows of all that spent, and vouches for them; where nobody does, a window passes.
local WINDOW, SLOT, LEASE, TAKE_MS, SETTLE_MS, GRANTS = 62000, 250, 10000, 1000, 2000, 64
local VOUCH_MS = LEASE - 2000 -- what was said may be under way for a while
local B, LINE, RES, OPEN, GRANTED, MEMBERS, TENANTS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local process = ARGV[1]
local epoch = tonumber(ARGV[3])

local function four(text)
	local a, b, c, d = string.match(text or '0 0 0 0', '^(%S+) (%S+) (%S+) (%S+)')
	return {tonumber(a), tonumber(b), tonumber(c), tonumber(d)}
end
local function text4(x)
	return string.format('%.0f %.0f %.0f %.0f', x[1], x[2], x[3], x[4])
end

local h = call('HMGET', B, 'epoch', 'made', 'closed', 'denied', 'from', 'sum', 'pace', 'low', 'vt', 'headed', 'now',
	'blind', 'low_at', 'joins', 'kept')
local stored = tonumber(h[1] or '-1')
if epoch < stored then
	return {'stale', tostring(stored)}
end
-- A clock that was set back: what stands in slots of the future would stay there.
local anew = epoch > stored or now < tonumber(h[11] or '0') - 5000
local limit, burst = four(ARGV[5]), tonumber(ARGV[7])
local share = {}
for s in string.gmatch(ARGV[6], '%S+') do share[#share + 1] = tonumber(s) / 1000 end
local first = math.floor((now - WINDOW) / SLOT) + 1
local slot = math.floor(now / SLOT)
local made, closed, denied = tonumber(h[2] or '0'), tonumber(h[3] or '0'), tonumber(h[4] or '0')
local from, sum, pace, low = tonumber(h[5] or first), four(h[6]), four(h[7]), four(h[8])
local low_at = four(h[13]) -- when a provider said so last
local vt, headed = four(h[9]), h[10] or ''
local blind = h[12] == '1' -- nobody has said yet who lived before this record
local joins = tonumber(h[14] or '0') -- how many have come to this record
local kept = h[15] == '1' -- it was made from one of before, which Redis had not lost
local vouched = tonumber(string.match(ARGV[8], '^k (%d+)') or '-1')

-- ── members ──

-- posted: '1' in this epoch; '0' not yet; 'left' it did, and is over; 'gone' it is over, and never did.
local known = {}
local function member(id)
	if known[id] == nil then
		local text = call('HGET', MEMBERS, id)
		local last, posted, worker = string.match(text or '', '^(%S+) (%S+) (.*)$')
		known[id] = last and {last = tonumber(last), posted = posted, worker = worker} or false
	end
	return known[id]
end
local function member_set(id, last, posted, worker)
	known[id] = {last = last, posted = posted, worker = worker}
	call('HSET', MEMBERS, id, string.format('%.0f %s %s', last, posted, worker))
end
local function dead(id)
	local m = member(id)
	return not m or m.last < now - LEASE or m.posted == 'gone' or m.posted == 'left'
end

-- When each came (0: all have heard of it), and of how many it has heard.
local parts = {}
local function part(id)
	if parts[id] == nil then
		local came, heard = string.match(call('HGET', B, 'p' .. id) or '', '^(%S+) (%S+)$')
		parts[id] = came and {came = tonumber(came), heard = tonumber(heard)} or false
	end
	return parts[id]
end
local function part_set(id, came, heard)
	parts[id] = {came = came, heard = heard}
	call('HSET', B, 'p' .. id, string.format('%.0f %.0f', came, heard))
end
local unheard = {}
local function all_heard_of(id)
	local p = part(id)
	if not p or p.came == 0 then return true end
	if unheard[id] then return false end
	local all = call('HGETALL', MEMBERS)
	for i = 1, #all, 2 do
		local other = part(all[i])
		if all[i] ~= id and other and not dead(all[i]) and other.heard < p.came then
			unheard[id] = true
			return false
		end
	end
	part_set(id, 0, p.heard)
	return true
end

if anew then
	if ARGV[8] == '' then
		return {'post', tostring(stored)}
	end
	call('DEL', B, LINE, RES, OPEN, GRANTED, TENANTS)
	local all = call('HGETALL', MEMBERS)
	for i = 1, #all, 2 do
		local m = member(all[i])
		member_set(all[i], math.min(m.last, now), '0', m.worker)
	end
	-- In an epoch older than a window a record that is not there means that nobody reserved, but for who knew one. One that stood blind
	-- stays so for its window: that Redis was started again told nobody who lived before it.
	local still = blind and made + WINDOW > now
	kept = stored >= 0 and not still and made + LEASE < epoch
	blind = now - epoch < WINDOW or still or stored < 0 and vouched >= 0
	made, closed, denied, from, headed, joins = now, 0, 0, first, '', 0
	sum, pace, low, vt = {0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}
	low_at = {0, 0, 0, 0}
end
local me, before = member(process), joins
local posted = me and me.posted == '1'
if not posted and ARGV[8] == '' then
	return {'post', tostring(stored)}
end

-- ── slots ──

local function add(n, c, sign)
	if n < from then return end -- it left the window
	local x = four(call('HGET', B, 's' .. n))
	for d = 1, 4 do
		x[d] = x[d] + sign * c[d]
		sum[d] = sum[d] + sign * c[d]
	end
	call('HSET', B, 's' .. n, text4(x))
end

local function advance()
	local last = math.min(first - 1, from + WINDOW / SLOT + 20)
	for n = from, last do
		local x = call('HGET', B, 's' .. n)
		if x then
			x = four(x)
			for d = 1, 4 do sum[d] = sum[d] - x[d] end
			call('HDEL', B, 's' .. n)
		end
	end
	from = math.max(from, first)
end
advance()

-- What was learned and not said again for a window is believed no more: it doubles, until it is what is configured.
for d = 1, 4 do
	low_at[d] = math.min(low_at[d], now)
	while low[d] > 0 and low_at[d] + WINDOW <= now do
		low[d], low_at[d] = low[d] * 2, low_at[d] + WINDOW
		if low[d] >= limit[d] then low[d] = 0 end
	end
end
local function in_force(d)
	return low[d] > 0 and low[d] < limit[d] and low[d] or limit[d]
end
-- Sustained, the pace fills the window exactly.
local function pace_ms(d, amount)
	return amount * WINDOW / (in_force(d) * share[1])
end
local function pace_add(c, before)
	if burst == 0 then return end
	for d = 1, 4 do
		local more = c[d] - (before and before[d] or 0)
		if limit[d] > 0 and more ~= 0 then pace[d] = math.max(pace[d], now) + pace_ms(d, more) end
	end
end

-- ── reservations: "KIND PROCESS LANE AT OUTPUT_AT TAG R I O T"; KIND w: waits, g: granted, o: open ──

local function get(id)
	local text = call('HGET', RES, id)
	if not text then return nil end
	local kind, p, lane, at, oat, tag, rest = string.match(text, '^(%S) (%S+) (%S+) (%S+) (%S+) (%S+) (.+)$')
	return {kind = kind, process = p, lane = tonumber(lane), at = tonumber(at), oat = tonumber(oat), tag = tonumber(tag),
		c = four(rest)}
end
local function put(id, e)
	call('HSET', RES, id, string.format('%s %s %d %.0f %.0f %.0f %s', e.kind, e.process, e.lane, e.at, e.oat, e.tag, text4(e.c)))
end
local function admitted(e) return {e.c[1], e.c[2], 0, e.c[4]} end
local function output(e) return {0, 0, e.c[3], 0} end
local function count(e, sign)
	add(e.at, admitted(e), sign)
	add(e.oat, output(e), sign)
end
local function forget(id)
	call('HDEL', RES, id)
	call('ZREM', OPEN, id)
	call('ZREM', GRANTED, id)
	call('ZREM', LINE, id)
end
local function give_back(id, e)
	if e.kind ~= 'w' then
		count(e, -1)
		pace_add({0, 0, 0, 0}, e.c)
	end
	forget(id)
end
local function reserve(id, e, kind)
	e.kind, e.at, e.oat = kind, slot, slot
	count(e, 1)
	pace_add(e.c)
	call('ZADD', OPEN, slot, id)
	put(id, e)
end

-- ── what this process knows, where Redis may not ──

if not posted then
	for piece in string.gmatch(ARGV[8], '[^;]+') do
		local kind, rest = string.match(piece, '^(%S)%s?(.*)$')
		if kind == 'm' then
			local id, age = string.match(rest, '^(%S+) (%S+)$')
			local m = member(id)
			local last = now - tonumber(age)
			if not m then
				member_set(id, last, '0', '-')
			elseif m.posted ~= '1' and m.posted ~= 'left' and m.last < last then
				member_set(id, last, '0', m.worker)
			end
		elseif kind == 's' then
			local age, c = string.match(rest, '^(%S+) (.+)$')
			add(math.floor((now - tonumber(age)) / SLOT), four(c), 1)
		elseif kind == 'r' then
			local id, age, oage, c = string.match(rest, '^(%S+) (%S+) (%S+) (.+)$')
			if not call('HGET', RES, id) then
				local e = {kind = 'o', process = process, lane = 0, tag = 0, c = four(c),
					at = math.floor((now - tonumber(age)) / SLOT),
					oat = math.floor((now - tonumber(oage)) / SLOT)}
				count(e, 1)
				call('ZADD', OPEN, e.oat, id)
				put(id, e)
			end
		end
	end
	-- The worker's former incarnation is gone, and what it waited for.
	local all = call('HGETALL', MEMBERS)
	for i = 1, #all, 2 do
		local m = member(all[i])
		if all[i] ~= process and m.worker == ARGV[2] and (m.posted == '0' or m.posted == '1') then
			member_set(all[i], m.last, m.posted == '1' and 'left' or 'gone', m.worker)
		end
	end
	joins = joins + 1
	part_set(process, joins, 0)
	member_set(process, now, '1', ARGV[2])
	-- As if the last window had been spent whole, until all who live have posted and a window has passed since any died.
	if string.match(ARGV[8], '^f') or vouched >= 0 and (kept or vouched < VOUCH_MS) then blind = false end
	if made + WINDOW > now then
		closed = made + (blind and WINDOW or SETTLE_MS)
		all = call('HGETALL', MEMBERS)
		for i = 1, #all, 2 do
			local m = member(all[i])
			if m.posted == '0' or m.posted == 'gone' then closed = math.max(closed, m.last + WINDOW) end
		end
	end
else
	local heard, mine = tonumber(ARGV[10]), part(process)
	if not mine or me.last < now - LEASE then
		joins = joins + 1
		part_set(process, joins, heard)
	elseif heard > mine.heard then
		part_set(process, mine.came, heard)
	end
	member_set(process, now, '1', ARGV[2])
end
if joins > before then
	local all = call('HGETALL', MEMBERS)
	for i = 1, #all, 2 do
		local m = member(all[i])
		if all[i] ~= process and m.posted == '1' and not dead(all[i]) then
			call('PUBLISH', 'ctl:' .. m.worker, '1 budget ' .. ARGV[4] .. ' -2')
		end
	end
end

-- ── the line ──

-- What @lane may fill of a limit: its share, and one at least, for a limit of 1 lets one pass.
local function part_of(most, lane) return math.max(1, math.floor(most * share[lane + 1])) end

local function fits(e)
	if now < closed or now < denied or not all_heard_of(e.process) then return false end
	for d = 1, 4 do
		if limit[d] > 0 and e.c[d] > 0 then
			if sum[d] + e.c[d] > part_of(in_force(d), e.lane) then return false end
			if burst > 0 and pace[d] > now and pace[d] + pace_ms(d, e.c[d]) - now > burst then return false end
		end
	end
	return true
end

-- When the head fits by time alone, ms from now.
local function fits_in(e)
	if not all_heard_of(e.process) then return SLOT end
	local at, need, open = math.max(now, closed, denied), {}, false
	for d = 1, 4 do
		need[d] = 0
		if limit[d] > 0 and e.c[d] > 0 then
			need[d] = sum[d] + e.c[d] - part_of(in_force(d), e.lane)
			if burst > 0 then at = math.max(at, math.min(pace[d], pace[d] + pace_ms(d, e.c[d]) - burst)) end
		end
		open = open or need[d] > 0
	end
	local n = from
	while open and n <= slot do
		local x = call('HGET', B, 's' .. n)
		if x then
			x, open = four(x), false
			for d = 1, 4 do
				need[d] = need[d] - x[d]
				open = open or need[d] > 0
			end
		end
		n = n + 1
	end
	if n > from then at = math.max(at, (n - 1) * SLOT + WINDOW) end
	return math.max(1, math.ceil(at - now))
end

local function score(lane, tag) return lane * 1e12 + tag end

local function never(lane, c)
	for d = 1, 4 do
		if limit[d] > 0 and c[d] > part_of(limit[d], lane) then return true end
	end
	return false
end
-- Above what was learned: ms until that has aged enough, where nobody says it again; else 0.
local function learned_ms(lane, c)
	local ms = 0
	for d = 1, 4 do
		local x, at = in_force(d), low_at[d]
		while x < limit[d] and c[d] > part_of(x, lane) do
			x, at = math.min(x * 2, limit[d]), at + WINDOW
			ms = math.max(ms, at - now)
		end
	end
	return ms
end

local function ask(id, lane, tenant, mode, given, c)
	local e = get(id)
	if e and e.process == process then return e end
	e = {process = process, lane = lane, c = c, at = 0, oat = 0}
	if never(lane, c) then return nil, 'n' end
	if not all_heard_of(process) then return nil, 'j' end
	local later = learned_ms(lane, c)
	if later > 0 then return nil, mode == 'try' and 's' or string.format('l %.0f', later) end
	local part = 1
	for d = 1, 4 do
		if limit[d] > 0 then part = math.max(part, math.floor(c[d] * 1e6 / in_force(d))) end
	end
	local name = lane .. ' ' .. tenant
	local last = tonumber(call('HGET', TENANTS, name) or '0')
	e.tag = tonumber(given) or math.max(last, vt[lane + 1])
	local head = call('ZRANGE', LINE, 0, 0)[1]
	if not head or score(lane, e.tag) < tonumber(call('ZSCORE', LINE, head)) then
		if fits(e) then
			reserve(id, e, 'o')
			return e
		end
	end
	if mode == 'try' then return nil, 's' end
	if not tonumber(given) then
		call('HSET', TENANTS, name, string.format('%.0f', e.tag + part))
	end
	e.kind = 'w'
	put(id, e)
	call('ZADD', LINE, string.format('%.0f', score(lane, e.tag)), id)
	return e
end

local function look(id)
	local e = get(id)
	if not e or e.process ~= process then return 'x' end
	if e.kind == 'w' then
		return 'w ' .. call('ZRANK', LINE, id) .. ' ' .. string.format('%.0f', e.tag)
	end
	if e.kind == 'g' then
		e.kind = 'o'
		call('ZREM', GRANTED, id)
		put(id, e)
	end
	return 'o ' .. string.format('%.0f', e.tag)
end

local function learn(x)
	local l, r = four(x), four(string.match(x, '^%S+ %S+ %S+ %S+ (.+)$'))
	for d = 1, 4 do
		if l[d] > 0 then low[d], low_at[d] = l[d] < limit[d] and l[d] or 0, now end
	end
	if burst > 0 then return end -- what remains of a small bucket says nothing of the minute
	local foreign, found = {0, 0, 0, 0}, false
	for d = 1, 4 do
		if limit[d] > 0 and l[d] ~= 0 and r[d] >= 0 then
			local more = in_force(d) - sum[d] - r[d]
			-- Token counts come rounded to thousands.
			if more > in_force(d) / 100 and (d == 1 or more > 1000) then foreign[d], found = more, true end
		end
	end
	if found then add(slot, foreign, 1) end
end

local operations = {
	ask = function(rest)
		local id, lane, tenant, mode, tag, c = string.match(rest, '^(%S+) (%S+) (%S+) (%S+) (%S+) (.+)$')
		local e, word = ask(id, tonumber(lane), tenant, mode, tag, four(c))
		return e and id or '', word
	end,
	look = function(id) return id end,
	settle = function(rest)
		local id, c = string.match(rest, '^(%S+) (.+)$')
		local e = get(id)
		if not e or e.kind == 'w' or e.process ~= process then return '', 'x' end
		c = four(c)
		count(e, -1)
		pace_add(c, e.c)
		e.c = c
		-- Output was made until now; a second is well within the slack.
		e.oat = math.max(e.oat, slot - 1000 / SLOT)
		count(e, 1)
		forget(id)
		return '', '1'
	end,
	back = function(id)
		local e = get(id)
		if not e or e.process ~= process then return '', 'x' end
		give_back(id, e)
		return '', '1'
	end,
	hold = function(id)
		local e = get(id)
		if not e or e.kind ~= 'o' or e.process ~= process then return '', 'x' end
		add(e.oat, output(e), -1)
		e.oat = slot
		add(e.oat, output(e), 1)
		put(id, e)
		call('ZADD', OPEN, slot, id)
		return '', '1'
	end,
	learn = function(rest) learn(rest) return '', '1' end,
	deny = function(ms)
		denied = math.max(denied, now + math.min(tonumber(ms), WINDOW))
		return '', '1'
	end,
	bye = function() member_set(process, now, 'left', ARGV[2]) return '', '1' end,
}

-- What nobody took, and what left the window with its process, goes first.
for _, id in ipairs(call('ZRANGEBYSCORE', GRANTED, '-inf', now, 'LIMIT', 0, GRANTS)) do
	local e = get(id)
	if e then give_back(id, e) else forget(id) end
end
for _, id in ipairs(call('ZRANGEBYSCORE', OPEN, '-inf', from - 1, 'LIMIT', 0, GRANTS)) do
	forget(id)
end

local answers, looks = {}, {}
for i = 11, #ARGV do
	local op, rest = string.match(ARGV[i], '^(%S+) ?(.*)$')
	local id, word = operations[op](rest)
	looks[#looks + 1], answers[#answers + 1] = id, word or ''
end

-- Grants from the head. A process that died waits no more.
local told, order, next_ms, head = {}, {}, -1, nil
for _ = 1, GRANTS + 1000 do
	head = call('ZRANGE', LINE, 0, 0)[1]
	if not head then break end
	local e = get(head)
	if not e or dead(e.process) or never(e.lane, e.c) or learned_ms(e.lane, e.c) > 0 then
		forget(head) -- where a limit was learned meanwhile, its owner asks again and hears it
	elseif #order < GRANTS and fits(e) then
		call('ZREM', LINE, head)
		reserve(head, e, 'g')
		call('ZADD', GRANTED, now + TAKE_MS, head)
		vt[e.lane + 1] = math.max(vt[e.lane + 1], e.tag)
		order[#order + 1] = head
		if e.process ~= process then told[e.process] = (told[e.process] or '') .. ' ' .. head end
	else
		next_ms = #order < GRANTS and fits_in(e) or 1
		break
	end
end
local mine, owner = false, nil
if head then
	owner = get(head).process
	mine = owner == process
	if head ~= headed and not mine then told[owner] = told[owner] or '' end
else
	call('DEL', TENANTS)
	vt = {0, 0, 0, 0}
end
-- In the line's order, so that the same history tells them in the same order.
local names = {}
for id in pairs(told) do names[#names + 1] = id end
table.sort(names)
for _, id in ipairs(names) do
	call('PUBLISH', 'ctl:' .. member(id).worker, '1 budget ' .. ARGV[4] .. ' ' .. (id == owner and next_ms or -1) .. told[id])
end
-- Granted to this process meanwhile: taken by this very call.
local mine_told = {}
for _, id in ipairs(order) do
	local e = get(id)
	if e and e.process == process then
		mine_told[#mine_told + 1] = id
	end
end
for i, id in ipairs(looks) do
	if id ~= '' then answers[i] = look(id) end
end
local also = {}
for _, id in ipairs(mine_told) do
	look(id)
	also[#also + 1] = id
end

call('HSET', B, 'epoch', ARGV[3], 'v', '1', 'made', made, 'closed', closed, 'denied', denied, 'from', from, 'sum', text4(sum),
	'pace', string.format('%.3f %.3f %.3f %.3f', pace[1], pace[2], pace[3], pace[4]), 'low', text4(low), 'low_at', text4(low_at),
	'vt', text4(vt), 'headed', head or '', 'now', now, 'blind', blind and '1' or '0', 'joins', joins, 'kept', kept and '1' or '0')
local list = {}
if ARGV[9] == '1' then
	local all = call('HGETALL', MEMBERS)
	for i = 1, #all, 2 do
		local m = member(all[i])
		if m.last < now - 2 * WINDOW then
			call('HDEL', MEMBERS, all[i])
			call('HDEL', B, 'p' .. all[i])
		else
			list[#list + 1] = all[i] .. ' ' .. string.format('%.0f', now - m.last)
		end
	end
	for _, key in ipairs(KEYS) do call('PEXPIRE', key, 10 * WINDOW) end
end
local limits = {in_force(1), in_force(2), in_force(3), in_force(4)}
return {'ok', ARGV[3], tostring(next_ms), mine and '1' or '0', tostring(call('ZCARD', LINE)), text4(sum), text4(limits),
	table.concat(list, ';'), string.format('%.0f', math.max(0, closed - now)), table.concat(also, ' '), tostring(joins),
	blind and made + WINDOW > now and '1' or '0', unpack(answers)}
