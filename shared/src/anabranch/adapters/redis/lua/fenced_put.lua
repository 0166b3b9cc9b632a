-- Store values and add entries to histories, unless a newer owner has written under the same fence.
--
-- KEYS[1]      the fence;  KEYS[2..]  the keys to store, then the histories, all of one hash tag
-- ARGV[1]      the writer's epoch, a decimal without sign or leading zeros
-- ARGV[2]      the fence's time to live in milliseconds
-- ARGV[3]      how many of the keys are histories
-- ARGV[4..]    for each key to store its value and its time to live in milliseconds, then for each history what
--              `history` says
-- returns      '' where all was stored, else the epoch that the fence carries; then nothing was stored
--
-- Epochs are compared as text, the longer the greater: Lua's numbers lose integers over 2^53.
local current = redis.call('GET', KEYS[1])
local epoch = ARGV[1]
if current and (#current > #epoch or (#current == #epoch and current > epoch)) then
  return current
end
redis.call('SET', KEYS[1], epoch, 'PX', ARGV[2])
local stored = #KEYS - tonumber(ARGV[3])
for i = 2, stored do
  redis.call('SET', KEYS[i], ARGV[2 * i], 'PX', ARGV[2 * i + 1])
end
local at = 2 * stored + 2
for i = stored + 1, #KEYS do
  at = add_entries(KEYS[i], ARGV, at)
end
return ''
