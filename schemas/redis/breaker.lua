-- A breaker, as all processes know it: open until Redis's own clock says so; then one of them asks, under a lease.
-- KEYS: brk:{id}
-- ARGV: 1 verb, 2 worker, 3 for_ms, 4 said ('1': the provider itself said so, or an open one failed again; '0': this process alone saw
--       it), 5 channel, 6 id, 7 '1' where the key, the credit or the model is refused
-- Verbs: 'open': it is not to be asked for for_ms; holds for all where it was said, or where another process saw the same.
--        'look': is it open for all? (0 ms: its time is over, and nobody has found it well)
--        'probe': may this worker ask? for_ms is the lease.  'free': it does not after all: the lease is for whoever asks for it now.
--        'close': it is well.
-- Returns a list, word, ms and '1' where it is open for a refusal: 'open' (for all, so long), 'alone' (not for all), 'ours' (the lease), 'held' (another's, so long), 'none'
-- (nothing is known of it here, or the lease is another's), 'closed', 'freed'.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local verb, worker, for_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])

if verb == 'close' then
	redis.call('DEL', KEYS[1])
	redis.call('PUBLISH', ARGV[5], '1 breaker ' .. ARGV[6] .. ' closed 0')
	return {'closed', '0'}
end

local h = redis.call('HMGET', KEYS[1], 'until', 'probe', 'probe_until', 'out')
local until_ms = tonumber(h[1] or '0')
local out = h[4] or '0'

if verb == 'look' then
	return h[1] and {'open', tostring(math.max(until_ms - now, 0)), out} or {'none', '0'}
end

if verb == 'free' then
	if h[2] ~= worker then
		return {'none', '0'}
	end
	redis.call('HDEL', KEYS[1], 'probe', 'probe_until')
	redis.call('PUBLISH', ARGV[5], '1 breaker ' .. ARGV[6] .. ' free 0')
	return {'freed', '0'}
end

if verb == 'probe' then
	if not h[1] then
		return {'none', '0'}
	end
	if until_ms > now then
		return {'open', tostring(until_ms - now), out}
	end
	if h[2] and h[2] ~= worker and tonumber(h[3]) > now then
		return {'held', tostring(tonumber(h[3]) - now), out}
	end
	redis.call('HSET', KEYS[1], 'probe', worker, 'probe_until', tostring(now + for_ms))
	redis.call('PEXPIRE', KEYS[1], for_ms + 600000)
	return {'ours', ARGV[3]}
end

local agreed = ARGV[4] == '1' or until_ms > now
if not agreed then
	local all = redis.call('HGETALL', KEYS[1])
	for i = 1, #all, 2 do
		if string.sub(all[i], 1, 2) == 'w:' and all[i] ~= 'w:' .. worker and tonumber(all[i + 1]) > now then
			agreed = true
		end
	end
	redis.call('HSET', KEYS[1], 'w:' .. worker, tostring(now + math.max(for_ms, 10000)))
end
if not agreed then
	redis.call('PEXPIRE', KEYS[1], for_ms + 600000)
	return {'alone', '0'}
end
if ARGV[7] == '1' then
	out = '1'
elseif until_ms <= now then
	out = '0' -- it is open for something else now
end
until_ms = math.max(until_ms, now + for_ms)
redis.call('HSET', KEYS[1], 'until', tostring(until_ms), 'out', out)
redis.call('PEXPIRE', KEYS[1], until_ms - now + 600000) -- a key that is not there yet takes none
redis.call('HDEL', KEYS[1], 'probe', 'probe_until')
if out == '1' then -- 'open' follows for those who do not know this word
	redis.call('PUBLISH', ARGV[5], '1 breaker ' .. ARGV[6] .. ' out ' .. tostring(until_ms - now))
end
redis.call('PUBLISH', ARGV[5], '1 breaker ' .. ARGV[6] .. ' open ' .. tostring(until_ms - now))
return {'open', tostring(until_ms - now), out}
